"""Ten thousand environments against one backend, in virtual time: `make scale` draws the plots of docs/scale.md."""
