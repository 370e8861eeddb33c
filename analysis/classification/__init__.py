"""How much of the class the codes carry: a linear classifier on pooled features."""
