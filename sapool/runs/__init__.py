"""What every trained thing shares, whatever trained it."""
