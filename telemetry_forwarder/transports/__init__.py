"""The rim towards the destinations: everything that sends."""
