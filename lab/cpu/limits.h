// SPDX-License-Identifier: MIT OR Apache-2.0
// The machine ends when its time is over or SIGTERM comes, with its journal and results complete up to there.
#pragma once

namespace splitlock {

void begin_limits();

} // namespace splitlock
