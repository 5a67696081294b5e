"""Integer coverage: what a runtime really computes on integers, and why it does not do the rest."""

from deploy.audit.audit import audit_model
from deploy.audit.render import render
from deploy.audit.report import AuditReport, Multiplication

__all__ = ["AuditReport", "Multiplication", "audit_model", "render"]
