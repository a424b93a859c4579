"""The Gaussian process of method caviar, which makes proposals and forecasts."""
