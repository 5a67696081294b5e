"""Small graph edits with stated pre- and postconditions."""
