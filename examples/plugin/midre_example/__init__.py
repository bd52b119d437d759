"""Components for midre in a package of one's own, one file each: a defense, an attack and a data set."""
