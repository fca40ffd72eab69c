/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Every bad argument is an error with a sentence, and none ends the process. Needs no KVM. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "kvm_preemption_timer.h"

static int failures;

static void expect(const char *what, int result, int wanted, const char *sentence)
{
	const char *said = kpt_last_error();

	if (result != wanted || said == NULL || strstr(said, sentence) == NULL) {
		printf("%s gave %d: %s\n", what, result, said ? said : "nothing");
		failures++;
	}
}

int main(void)
{
	struct kpt_config config = { 0 };
	kpt_binding *binding = NULL;
	int sockets[2];

	if (kpt_last_error() != NULL || socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) != 0)
		return 1;
	expect("no place for the binding", kpt_bind(0, NULL, NULL), -EINVAL, "`binding` is NULL");
	expect("no descriptor", kpt_bind(-1, NULL, &binding), -EINVAL, "-1 is no file descriptor");
	expect("a closed descriptor", kpt_bind(1000, NULL, &binding), -EBADF, "run page");
	expect("a socket", kpt_bind(sockets[0], NULL, &binding), -ENODEV, "run page");
	config.signal = 9;
	expect("SIGKILL", kpt_bind(sockets[0], &config, &binding), -EINVAL, "cannot be blocked");
	config.signal = 0;
	config.mechanism = 2;
	expect("a mechanism", kpt_bind(sockets[0], &config, &binding), -EINVAL, "2 is no mechanism");
	config.mechanism = KPT_MASKED_SIGNAL;
	config.reserved = 1;
	expect("rubbish", kpt_bind(sockets[0], &config, &binding), -EINVAL, "set the whole struct");
	expect("arming nothing", kpt_arm(NULL, KPT_NEVER, 0), -EINVAL, "`binding` is NULL");
	expect("nothing interrupted", kpt_interrupted(NULL, NULL), -EINVAL, "`binding` is NULL");
	expect("kicking nothing", kpt_kick(NULL, 0), -EINVAL, "`kicker` is NULL");
	if (kpt_kicker_new(NULL) != NULL || kpt_unbind(NULL) != 0 || binding != NULL)
		failures++;
	kpt_kicker_free(NULL);
	if (failures == 0)
		puts("as it should be");
	return failures != 0;
}
