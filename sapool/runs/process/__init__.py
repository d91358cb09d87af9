"""What a run has to do with other processes: those that tell it to stop, and those that would train in its folder."""
