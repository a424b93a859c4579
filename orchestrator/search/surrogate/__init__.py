"""The Gaussian process that method caviar asks for proposals and forecasts."""
