"""Search methods: which configuration is tried next, and which trial goes on."""
