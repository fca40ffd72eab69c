// SPDX-License-Identifier: MIT OR Apache-2.0
#include "bochs.h"
#include "cpu/cpu.h"
#include "options.h"
#include "journal.h"
#include "results.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

namespace splitlock {

Options options;

void refuse(const std::string &why)
{
  fprintf(stderr, "splitlock cpu: %s\n", why.c_str());
  exit(EXIT_UNUSABLE);
}

static unsigned number(const std::string &name, const std::string &value, unsigned most)
{
  char *end;
  errno = 0;
  unsigned long n = strtoul(value.c_str(), &end, 10);
  if (value.empty() || value[0] < '0' || value[0] > '9' || *end || errno || n > most)
    refuse("SPLITLOCK_CPU: " + name + "=" + value + " is no number up to " + std::to_string(most));
  return (unsigned)n;
}

static void set(const std::string &name, const std::string &value)
{
  if (name == "detect") {
    if (value != "ac" && value != "db" && value != "both" && value != "none")
      refuse("SPLITLOCK_CPU: detect=" + value + " is none of ac, db, both, none");
    options.split_lock_ac = value == "ac" || value == "both";
    options.bus_lock_db = value == "db" || value == "both";
  } else if (name == "journal-locks")
    options.journal_locks = number(name, value, 1) != 0;
  else if (name == "bus-lock-ns")
    options.bus_lock_ns = number(name, value, 10 * 1000 * 1000);
  else if (name == "seed")
    options.seed = number(name, value, 0xffffffff);
  else if (name == "limit-ms")
    options.limit_ms = number(name, value, 4000 * 1000);
  else if (name == "journal")
    options.journal = value;
  else if (name == "results")
    options.results = value;
  else
    refuse("SPLITLOCK_CPU: no option is called " + name);
}

// `name=value` between semicolons.
void start()
{
  const char *environment = getenv("SPLITLOCK_CPU");
  std::string rest = environment ? environment : "";
  while (!rest.empty()) {
    size_t end = rest.find(';');
    std::string word = rest.substr(0, end);
    rest = end == std::string::npos ? "" : rest.substr(end + 1);
    size_t equals = word.find('=');
    if (equals == std::string::npos)
      refuse("SPLITLOCK_CPU: " + word + " is not NAME=VALUE");
    set(word.substr(0, equals), word.substr(equals + 1));
  }
  open_journal();
  open_results();
}

} // namespace splitlock
