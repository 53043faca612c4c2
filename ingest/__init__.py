"""From camera to wire: sources, preprocessing, the capture ledger and the publisher.

Imports no other package of the project: a capture machine needs neither Redis nor torch.
"""
