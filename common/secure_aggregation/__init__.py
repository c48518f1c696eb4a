"""Secure aggregation: the hub learns the sum of the institutions' noised integers, and no summand.

The protocol is that of Bonawitz et al. 2017 (arXiv 1611.04482) with authenticated parties. Every pair of institutions
shares a mask that one adds and the other subtracts. Every institution adds one more mask of its own. Seeds of both are
split among all, so that the sum survives absent institutions. For one institution the others release either the shares
of its own mask, if it is in the sum, or those of its pairwise masks, if it is absent, and never both.

Assumed: at most `threshold - honest` institutions of the roster work together with the hub. As `threshold + honest` is
more than the roster has members, the hub then cannot get shares for two sets of survivors, and every sum that it
learns holds the noise of at least `honest` institutions that keep it to themselves.

Not given: protection of the result against institutions that send useless numbers, and delivery. A party that does not
answer, or answers wrongly, is left out or makes the round fail. It never makes the sum wrong unnoticed, apart from its
own summand.
"""
