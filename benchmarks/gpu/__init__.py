"""One unattended measurement on a GPU: a kit is packed where the run is, and measured where the GPU is."""
