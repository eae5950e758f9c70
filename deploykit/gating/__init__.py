"""The verdict of a report against a policy and an older report: pass, fail or cannot tell, and its forms for CI."""
