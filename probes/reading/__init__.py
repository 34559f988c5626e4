"""How a probe reads: programs, files, NVML, processes. Every bound and every refusal lives here."""
