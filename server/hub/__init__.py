"""The hub's directory: configuration, keys, enrolled institutions, public data and the signed audit log.

This room is the only one that writes keys, certificates and enrolment. It knows no round, no model and not Flower.
"""

from server.hub.audit_log import VerifiedLog, verify_all
from server.hub.config import HubConfig, TestData
from server.hub.directory import Enrolled, HubDirectory

__all__ = ["Enrolled", "HubConfig", "HubDirectory", "TestData", "VerifiedLog", "verify_all"]
