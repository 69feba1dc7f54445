"""What an installation costs (`footprint`), and whether the wheel works where nothing else is (`check_wheels`)."""
