"""Training the network: settings, data, optimizers, schedules, metrics, the trainer."""
