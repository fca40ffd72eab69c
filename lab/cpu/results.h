// SPDX-License-Identifier: MIT OR Apache-2.0
// What the machine sends back: bytes written to the I/O port RESULTS_PORT.
#pragma once

namespace splitlock {

void open_results();

} // namespace splitlock
