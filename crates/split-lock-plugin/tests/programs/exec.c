/* exec HOW [PROGRAM [ARGUMENT...]]: one split lock, and then what HOW says. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
_Alignas(64) char line[128];

__attribute__((noinline)) void split(void)
{
    __asm__ volatile("lock incl (%0)" : : "r"(line + 62) : "memory");
}

/* Forbids what containers forbid: looking at other processes. */
static int restrict_calls(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ptrace, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

int main(int count, char **arguments)
{
    char *how = count > 1 ? arguments[1] : "";

    split();
    if (!strcmp(how, "self")) {
        char *again[] = {"another name", "exit", NULL};
        execv("/proc/self/exe", again);
    } else if (!strcmp(how, "path")) {
        execvp(arguments[2], arguments + 2);
    } else if (!strcmp(how, "seccomp")) {
        if (restrict_calls() != 0)
            return 55;
        execvp(arguments[2], arguments + 2);
    } else if (!strcmp(how, "at")) {
        int file = open(arguments[2], O_RDONLY | O_CLOEXEC);
        syscall(SYS_execveat, file, "", arguments + 2, environ, AT_EMPTY_PATH);
    } else if (!strcmp(how, "memory")) {
        int file = memfd_create("program", 0), from = open(arguments[2], O_RDONLY);
        char part[4096];
        for (ssize_t bytes; (bytes = read(from, part, sizeof part)) > 0;)
            if (write(file, part, bytes) != bytes)
                return 98;
        fexecve(file, arguments + 2, environ);
    } else if (!strcmp(how, "fork")) {
        /* Both processes go on in the same image. */
        pid_t child = fork();
        split();
        if (child == 0)
            _exit(0);
        waitpid(child, NULL, 0);
        return 0;
    } else if (!strcmp(how, "crash")) {
        raise(SIGSEGV);
    } else if (!strcmp(how, "killed")) {
        raise(SIGKILL);
    } else if (!strcmp(how, "forever")) {
        puts("begins");
        fflush(stdout);
        for (;;)
            pause();
    } else if (!strcmp(how, "modify")) {
        /* lock inc dword ptr [rdi]; ret, and then lock dec. */
        unsigned char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memcpy(page, (unsigned char[]){0xf0, 0xff, 0x07, 0xc3}, 4);
        for (int n = 0; n < 3; n++)
            ((void (*)(char *))page)(line + 62);
        page[2] = 0x0f;
        for (int n = 0; n < 5; n++)
            ((void (*)(char *))page)(line + 62);
        return 0;
    } else if (!strcmp(how, "daemon")) {
        if (fork() > 0)
            return 0;
        setsid();
        for (int n = 0; n < 1024; n++)
            close(n);
        /* Until the test has seen what it came for. */
        while (access(arguments[3], F_OK) == 0)
            usleep(10000);
        split();
        execv(arguments[2], arguments + 2);
    } else {
        return atoi(how);
    }
    return 97;
}
