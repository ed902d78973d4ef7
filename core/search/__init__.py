"""Search: pure policies that ask for samples and are told the results, and the driver that stands between them and the world."""
