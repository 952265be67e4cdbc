"""The electrical side: waveforms and faults, feeder, inverters, grid codes."""
