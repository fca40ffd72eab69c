// SPDX-License-Identifier: MIT OR Apache-2.0
#include "bochs.h"
#include "cpu/cpu.h"
#include "pc_system.h"
#include "journal.h"
#include "limits.h"
#include "options.h"
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

namespace splitlock {

constexpr unsigned LOOK_EVERY_MS = 10;

static volatile sig_atomic_t is_to_stop;
static unsigned passed_ms;

static void stop(int) { is_to_stop = 1; }

[[noreturn]] static void end(int code)
{
  end_journal();
  fflush(nullptr);
  _exit(code);
}

static void look(void *)
{
  passed_ms += LOOK_EVERY_MS;
  if (options.limit_ms && passed_ms >= options.limit_ms) {
    fprintf(stderr, "splitlock cpu: the machine was not done after %u ms of its own time\n", passed_ms);
    end(EXIT_GUEST_TIME);
  }
  if (is_to_stop)
    end(EXIT_STOPPED);
}

void begin_limits()
{
  signal(SIGTERM, stop);
  bx_pc_system.register_timer(nullptr, look, LOOK_EVERY_MS * 1000, true, true, "splitlock limits");
}

} // namespace splitlock
