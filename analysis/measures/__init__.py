"""What is measured of dictionaries and patches."""
