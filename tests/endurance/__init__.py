"""A run of a real Airflow under kills, outages and faults, and an account of what it lost: ``make endurance``."""
