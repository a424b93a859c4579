"""From a data set to the best model: command line, data sets, launch, analysis."""
