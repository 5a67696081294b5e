"""The line from a trained model to checked, audited files: its configuration and its resumable stages."""
