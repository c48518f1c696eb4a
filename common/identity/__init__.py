"""Keys, certificates, enrolment files and revocations."""
