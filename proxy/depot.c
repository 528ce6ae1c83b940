/* SPDX-License-Identifier: BSD-2-Clause
 * Copyright (c) 2026 the apt-depot contributors */
/* Which version this is; see depot.h. */
#include "proxy/depot.h"

const char depot_version[] = APT_DEPOT_VERSION;
