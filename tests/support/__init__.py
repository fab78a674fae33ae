"""What several tests share: no fixtures, which stand in conftest.py."""
