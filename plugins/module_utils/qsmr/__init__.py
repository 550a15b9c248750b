"""The domain of qsmr-fleet as plain Python: importable and testable without Ansible."""
