"""The kit that travels to a device with nothing but Python: packed here, measured there, shown here."""
