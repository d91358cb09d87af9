"""What can be looked at of a network or a run, as plain data: nothing here knows how it is drawn."""
