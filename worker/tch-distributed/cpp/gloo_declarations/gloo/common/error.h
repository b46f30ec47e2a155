// Empty on purpose: torch includes this file but uses nothing of it. See context.h.
#pragma once
