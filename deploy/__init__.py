"""Run exported models on a runtime and audit what the runtime really executes."""
