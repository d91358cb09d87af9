"""Training that can be left anywhere and gone on with to the bit: mmengine's loop, with what it forgets kept."""
