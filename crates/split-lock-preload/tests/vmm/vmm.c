/* Small VMMs, one for each scenario. What they print must not depend on whether the library is loaded. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            printf("line %d: %s (%s)\n", __LINE__, #condition, strerror(errno)); \
            fflush(stdout); \
            _exit(1); \
        } \
    } while (0)

enum { MEMORY = 0x10000, CODE = 0x4000, WORD = 0x103f, PORT = 0x10 };

struct vm {
    int kvm, fd;
    uint8_t *memory;
};

struct vcpu {
    int fd;
    struct kvm_run *run;
};

static uint8_t *new_memory(size_t bytes)
{
    uint8_t *memory = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

static void set_slot(const struct vm *vm, int slot, uint64_t at, uint64_t bytes, void *memory, int flags)
{
    struct kvm_userspace_memory_region region = {
        .slot = slot, .flags = flags, .guest_phys_addr = at, .memory_size = bytes, .userspace_addr = (uintptr_t)memory,
    };
    CHECK(ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) == 0);
}

static struct vm new_vm(void)
{
    struct vm vm = { .kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC) };
    CHECK(vm.kvm >= 0);
    vm.fd = ioctl(vm.kvm, KVM_CREATE_VM, 0);
    CHECK(vm.fd >= 0);
    CHECK(ioctl(vm.fd, KVM_SET_TSS_ADDR, 0xfffbd000) == 0);
    vm.memory = new_memory(MEMORY);
    set_slot(&vm, 0, 0, MEMORY, vm.memory, 0);
    return vm;
}

static struct vcpu new_vcpu(const struct vm *vm, int id)
{
    struct vcpu vcpu = { .fd = ioctl(vm->fd, KVM_CREATE_VCPU, id) };
    CHECK(vcpu.fd >= 0);
    int bytes = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    vcpu.run = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu.fd, 0);
    CHECK(vcpu.run != MAP_FAILED);
    return vcpu;
}

/* In real mode, with all segments at 0. */
static void start_at(const struct vcpu *vcpu, uint64_t address, uint64_t turns)
{
    struct kvm_sregs special;
    CHECK(ioctl(vcpu->fd, KVM_GET_SREGS, &special) == 0);
    special.cs.base = special.cs.selector = 0;
    CHECK(ioctl(vcpu->fd, KVM_SET_SREGS, &special) == 0);
    struct kvm_regs registers = { .rip = address, .rflags = 2, .rsp = 0x8000, .rbx = WORD, .rcx = turns, .rdx = PORT };
    CHECK(ioctl(vcpu->fd, KVM_SET_REGS, &registers) == 0);
}

static const uint8_t COUNT[] = {
    0xf0, 0x66, 0xff, 0x07, /* lock inc dword [bx] */
    0x66, 0x49,             /* dec ecx */
    0x75, 0xf8,             /* jnz -8 */
    0xee,                   /* out dx, al */
    0xeb, 0xf5,             /* jmp -11 */
};

static const uint8_t FOREVER[] = {
    0xf0, 0x66, 0xff, 0x07, /* lock inc dword [bx] */
    0xeb, 0xfa,             /* jmp -6 */
};

static void load(const struct vm *vm, const uint8_t *code, size_t bytes)
{
    memcpy(vm->memory + CODE, code, bytes);
}

static uint32_t word(const uint8_t *memory)
{
    uint32_t value;
    memcpy(&value, memory + WORD, 4);
    return value;
}

/* By somebody else's signals. */
static int may_be_interrupted;

static void run_to_port(const struct vcpu *vcpu)
{
    int result;
    do
        result = ioctl(vcpu->fd, KVM_RUN, 0);
    while (result == -1 && errno == EINTR && may_be_interrupted);
    CHECK(result == 0);
    CHECK(vcpu->run->exit_reason == KVM_EXIT_IO && vcpu->run->io.port == PORT);
}

static void close_all(struct vm *vm, struct vcpu *vcpu)
{
    if (vcpu) {
        CHECK(munmap(vcpu->run, ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0)) == 0);
        CHECK(close(vcpu->fd) == 0);
    }
    CHECK(close(vm->fd) == 0 && close(vm->kvm) == 0 && munmap(vm->memory, MEMORY) == 0);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

static int argument(char **arguments, int otherwise)
{
    return arguments[0] ? atoi(arguments[0]) : otherwise;
}

/* ---- scenarios ---- */

static void count(char **arguments)
{
    int turns = argument(arguments, 60000);
    struct vm vm = new_vm();
    struct vcpu vcpu = new_vcpu(&vm, 0);
    load(&vm, COUNT, sizeof COUNT);
    start_at(&vcpu, CODE, turns);
    run_to_port(&vcpu);
    struct kvm_regs registers;
    CHECK(ioctl(vcpu.fd, KVM_GET_REGS, &registers) == 0);
    printf("%u turns, ecx %llu, descriptors %d %d %d\n", word(vm.memory), registers.rcx & 0xffffffff, vm.kvm, vm.fd, vcpu.fd);
}

static void reopen(char **arguments)
{
    (void)arguments;
    for (int n = 0; n < 12; n++) {
        struct vm vm = new_vm();
        load(&vm, COUNT, sizeof COUNT);
        struct vcpu vcpu = new_vcpu(&vm, n % 3);
        start_at(&vcpu, CODE, 4000);
        run_to_port(&vcpu);
        printf("%u %d %d\n", word(vm.memory), vm.fd, vcpu.fd);
        close_all(&vm, &vcpu);
    }
    /* A vCPU's number becomes that of another VM's vCPU, without a call that a library could see. */
    struct vm one = new_vm(), other = new_vm();
    load(&one, COUNT, sizeof COUNT);
    load(&other, COUNT, sizeof COUNT);
    struct vcpu first = new_vcpu(&one, 0), second = new_vcpu(&other, 0);
    start_at(&second, CODE, 20000);
    CHECK(dup2(second.fd, first.fd) == first.fd);
    CHECK(ioctl(first.fd, KVM_RUN, 0) == 0);
    printf("%u %u\n", word(one.memory), word(other.memory));
}

struct turn {
    struct vcpu *vcpu;
    pthread_barrier_t *barrier;
    int mine;
};

static void *take_turns(void *argument)
{
    struct turn *turn = argument;
    for (int n = 0; n < 40; n++) {
        if (n % 2 == turn->mine) {
            struct kvm_regs registers;
            run_to_port(turn->vcpu);
            CHECK(ioctl(turn->vcpu->fd, KVM_GET_REGS, &registers) == 0);
            registers.rcx = 1500;
            CHECK(ioctl(turn->vcpu->fd, KVM_SET_REGS, &registers) == 0);
        }
        pthread_barrier_wait(turn->barrier);
    }
    return 0;
}

static void move(char **arguments)
{
    (void)arguments;
    struct vm vm = new_vm();
    struct vcpu vcpu = new_vcpu(&vm, 0);
    load(&vm, COUNT, sizeof COUNT);
    start_at(&vcpu, CODE, 1500);
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, 0, 2);
    struct turn turns[2] = { { &vcpu, &barrier, 0 }, { &vcpu, &barrier, 1 } };
    pthread_t thread;
    CHECK(pthread_create(&thread, 0, take_turns, &turns[1]) == 0);
    take_turns(&turns[0]);
    pthread_join(thread, 0);
    printf("%u turns\n", word(vm.memory));
}

static volatile int over;

static void *change_slots(void *argument)
{
    struct vm *vm = argument;
    while (!over) {
        uint8_t *memory = new_memory(0x4000);
        set_slot(vm, 7, 0x100000, 0x4000, memory, 0);
        set_slot(vm, 7, 0x200000, 0x4000, memory, 0);
        set_slot(vm, 7, 0x200000, 0, memory, 0);
        CHECK(munmap(memory, 0x4000) == 0);
    }
    return 0;
}

static void slots(char **arguments)
{
    (void)arguments;
    struct vm vm = new_vm();
    struct vcpu vcpu = new_vcpu(&vm, 0);
    load(&vm, COUNT, sizeof COUNT);
    pthread_t thread;
    CHECK(pthread_create(&thread, 0, change_slots, &vm) == 0);
    start_at(&vcpu, CODE, 20000);
    run_to_port(&vcpu);
    over = 1;
    pthread_join(thread, 0);
    /* The memory is elsewhere from now on, and what was there is the VMM's again. */
    uint8_t *other = new_memory(MEMORY);
    memcpy(other, vm.memory, MEMORY);
    set_slot(&vm, 0, 0, 0, vm.memory, 0);
    set_slot(&vm, 0, 0, MEMORY, other, 0);
    memset(vm.memory, 0x55, MEMORY);
    start_at(&vcpu, CODE, 20000);
    run_to_port(&vcpu);
    int untouched = 1;
    for (int n = 0; n < MEMORY; n++)
        untouched &= vm.memory[n] == 0x55;
    printf("%u turns, untouched %d\n", word(other), untouched);
}

static void fork_before_and_after(char **arguments)
{
    for (int n = 0; n < 2; n++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            count(arguments);
            exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        fflush(stdout);
        count(arguments);
        fflush(stdout);
    }
}

static void debug(char **arguments)
{
    (void)arguments;
    struct vm vm = new_vm();
    struct vcpu vcpu = new_vcpu(&vm, 0);
    load(&vm, COUNT, sizeof COUNT);
    start_at(&vcpu, CODE, 20000);
    run_to_port(&vcpu);
    /* Steps through its loop. */
    struct kvm_guest_debug debugging = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP };
    CHECK(ioctl(vcpu.fd, KVM_SET_GUEST_DEBUG, &debugging) == 0);
    start_at(&vcpu, CODE, 5);
    for (int n = 0; n < 12; n++) {
        CHECK(ioctl(vcpu.fd, KVM_RUN, 0) == 0);
        printf("%u at %llx\n", vcpu.run->exit_reason, vcpu.run->debug.arch.pc);
    }
    /* A breakpoint where the split lock is. */
    debugging = (struct kvm_guest_debug){ .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP };
    debugging.arch.debugreg[0] = CODE;
    debugging.arch.debugreg[7] = 0x402;
    CHECK(ioctl(vcpu.fd, KVM_SET_GUEST_DEBUG, &debugging) == 0);
    start_at(&vcpu, CODE + 4, 5);
    CHECK(ioctl(vcpu.fd, KVM_RUN, 0) == 0);
    printf("%u at %llx\n", vcpu.run->exit_reason, vcpu.run->debug.arch.pc);
    /* And back to normal. */
    debugging = (struct kvm_guest_debug){ 0 };
    CHECK(ioctl(vcpu.fd, KVM_SET_GUEST_DEBUG, &debugging) == 0);
    start_at(&vcpu, CODE, 40000);
    run_to_port(&vcpu);
    printf("%u turns\n", word(vm.memory));
}

/* The original scheme: a timer whose signal is blocked, and let through by KVM only. */
static void mask(char **arguments)
{
    int milliseconds = argument(arguments, 400);
    struct vm vm = new_vm();
    struct vcpu vcpu = new_vcpu(&vm, 0);
    load(&vm, FOREVER, sizeof FOREVER);
    start_at(&vcpu, CODE, 0);
    sigset_t set, guest;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    CHECK(pthread_sigmask(SIG_BLOCK, &set, &guest) == 0);
    struct {
        struct kvm_signal_mask head;
        uint8_t set[8];
    } argument = { .head.len = 8 };
    memcpy(argument.set, &guest, 8);
    CHECK(ioctl(vcpu.fd, KVM_SET_SIGNAL_MASK, &argument) == 0);
    timer_t timer;
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM };
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    struct itimerspec period = { { 0, 1000000 }, { 0, 1000000 } };
    CHECK(timer_settime(timer, 0, &period, 0) == 0);
    int kicks = 0;
    double begin = seconds();
    while (seconds() < begin + milliseconds * 1e-3) {
        CHECK(ioctl(vcpu.fd, KVM_RUN, 0) == -1 && errno == EINTR);
        /* Nothing else ends a run. */
        struct timespec now = { 0, 0 };
        CHECK(sigtimedwait(&set, 0, &now) == SIGALRM);
        kicks++;
    }
    fprintf(stderr, "kicks %d in %d ms, %u turns\n", kicks, milliseconds, word(vm.memory));
    printf("progress %d, the kicks arrive %d\n", word(vm.memory) > 0, kicks > milliseconds / 10);
}

static struct vcpu of_handler;

static void set_immediate_exit(int signal)
{
    (void)signal;
    of_handler.run->immediate_exit = 1;
}

static int answered;

static void *kick(void *argument)
{
    enum { LONGEST_US = 10000000, PAUSE_US = 10 };
    pthread_t thread = *(pthread_t *)argument;
    for (int n = 0; n < 100; n++) {
        usleep(2500);
        int before = __atomic_load_n(&answered, __ATOMIC_SEQ_CST);
        CHECK(pthread_kill(thread, SIGUSR1) == 0);
        /* The next one only then, as signals that are pending are one. One that is lost is missing in the end. */
        for (int us = 0; us < LONGEST_US && before == __atomic_load_n(&answered, __ATOMIC_SEQ_CST); us += PAUSE_US)
            usleep(PAUSE_US);
    }
    over = 1;
    pthread_kill(thread, SIGUSR1);
    return 0;
}

/* As QEMU does it. */
static void immediate_exit(char **arguments)
{
    (void)arguments;
    struct vm vm = new_vm();
    of_handler = new_vcpu(&vm, 0);
    load(&vm, FOREVER, sizeof FOREVER);
    start_at(&of_handler, CODE, 0);
    struct sigaction action = { .sa_handler = set_immediate_exit };
    CHECK(sigaction(SIGUSR1, &action, 0) == 0);
    pthread_t self = pthread_self(), thread;
    CHECK(pthread_create(&thread, 0, kick, &self) == 0);
    while (!over) {
        CHECK(ioctl(of_handler.fd, KVM_RUN, 0) == -1 && errno == EINTR);
        __atomic_fetch_add(&answered, 1, __ATOMIC_SEQ_CST);
        /* Whoever comes out was kicked. */
        CHECK(of_handler.run->immediate_exit || over);
        of_handler.run->immediate_exit = 0;
    }
    pthread_join(thread, 0);
    /* The last one, which says that it is over, may have come too late. */
    printf("answered %d, progress %d\n", answered >= 100, word(vm.memory) > 0);
}

/* A thread that blocks everything, with and without KVM's mask. */
static void block(char **arguments)
{
    int with_mask = argument(arguments, 1);
    struct vm vm = new_vm();
    struct vcpu vcpu = new_vcpu(&vm, 0);
    load(&vm, COUNT, sizeof COUNT);
    start_at(&vcpu, CODE, 10);
    run_to_port(&vcpu);
    sigset_t all;
    sigfillset(&all);
    CHECK(pthread_sigmask(SIG_SETMASK, &all, 0) == 0);
    if (with_mask) {
        struct {
            struct kvm_signal_mask head;
            uint8_t set[8];
        } nothing = { .head.len = 8 };
        CHECK(ioctl(vcpu.fd, KVM_SET_SIGNAL_MASK, &nothing) == 0);
    }
    start_at(&vcpu, CODE, 60000);
    run_to_port(&vcpu);
    printf("%u turns\n", word(vm.memory));
}

struct worker {
    struct vm *vm;
    int id, turns;
};

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct vcpu vcpu = new_vcpu(worker->vm, worker->id);
    struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };
    CHECK(ioctl(vcpu.fd, KVM_SET_MP_STATE, &runnable) == 0 || errno == EINVAL);
    start_at(&vcpu, CODE, worker->turns);
    run_to_port(&vcpu);
    return 0;
}

static void run_many(struct vm *vms, int count, int vcpus, int turns)
{
    pthread_t threads[16];
    struct worker workers[16];
    for (int n = 0; n < count * vcpus; n++) {
        workers[n] = (struct worker){ &vms[n % count], n / count, turns };
        CHECK(pthread_create(&threads[n], 0, work, &workers[n]) == 0);
    }
    for (int n = 0; n < count * vcpus; n++)
        pthread_join(threads[n], 0);
}

/* Whether that is all that has changed since the code was loaded. */
static int nothing_else_changed(const struct vm *vm, const uint8_t *code, size_t bytes)
{
    int unchanged = 1;
    for (int n = 0; n < MEMORY; n++) {
        int of_word = n >= WORD && n < WORD + 4;
        int of_code = n >= CODE && n < CODE + (int)bytes;
        unchanged &= of_word || vm->memory[n] == (of_code ? code[n - CODE] : 0);
    }
    return unchanged;
}

/* All vCPUs count at one word. */
static void many(char **arguments)
{
    int turns = argument(arguments, 4000);
    int vcpus = arguments[0] ? argument(arguments + 1, 8) : 8;
    struct vm vm = new_vm();
    load(&vm, COUNT, sizeof COUNT);
    run_many(&vm, 1, vcpus, turns);
    printf("%u turns, nothing else changed %d\n", word(vm.memory), nothing_else_changed(&vm, COUNT, sizeof COUNT));
}

static void *spin(void *argument)
{
    struct vcpu *vcpu = argument;
    ioctl(vcpu->fd, KVM_RUN, 0);
    return 0;
}

/* So many vCPUs that are busy for so many milliseconds, without a lock: what else in this process has used the CPU? */
static void busy(char **arguments)
{
    int vcpus = argument(arguments, 8);
    int milliseconds = arguments[0] ? argument(arguments + 1, 1000) : 1000;
    static const uint8_t SPIN[] = { 0xeb, 0xfe };
    struct vm vm = new_vm();
    load(&vm, SPIN, sizeof SPIN);
    struct vcpu of_vm[16];
    pthread_t threads[16];
    CHECK(vcpus <= 16);
    for (int n = 0; n < vcpus; n++) {
        of_vm[n] = new_vcpu(&vm, n);
        struct kvm_mp_state runnable = { .mp_state = KVM_MP_STATE_RUNNABLE };
        CHECK(ioctl(of_vm[n].fd, KVM_SET_MP_STATE, &runnable) == 0 || errno == EINVAL);
        start_at(&of_vm[n], CODE, 0);
        CHECK(pthread_create(&threads[n], 0, spin, &of_vm[n]) == 0);
    }
    struct timespec process[2], of_threads, wall = { milliseconds / 1000, milliseconds % 1000 * 1000000 };
    usleep(100000);
    double of_vcpus[2] = { 0, 0 };
    for (int end = 0; end < 2; end++) {
        if (end)
            nanosleep(&wall, 0);
        for (int n = 0; n < vcpus; n++) {
            clockid_t clock;
            CHECK(pthread_getcpuclockid(threads[n], &clock) == 0 && clock_gettime(clock, &of_threads) == 0);
            of_vcpus[end] += of_threads.tv_sec + of_threads.tv_nsec * 1e-9;
        }
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &process[end]);
    }
    double all = process[1].tv_sec - process[0].tv_sec + (process[1].tv_nsec - process[0].tv_nsec) * 1e-9;
    printf("others used %.0f us of CPU in %d ms\n", (all - (of_vcpus[1] - of_vcpus[0])) * 1e6, milliseconds);
    fflush(stdout);
    _exit(0);
}

static void two_vms(char **arguments)
{
    (void)arguments;
    struct vm vms[2] = { new_vm(), new_vm() };
    load(&vms[0], COUNT, sizeof COUNT);
    load(&vms[1], COUNT, sizeof COUNT);
    run_many(vms, 2, 2, 10000);
    printf("%u and %u turns\n", word(vms[0].memory), word(vms[1].memory));
}

/* Protected mode without descriptors: the first exception that it gets ends it. */
static void triple_fault(char **arguments)
{
    (void)arguments;
    struct vm vm = new_vm();
    struct vcpu vcpu = new_vcpu(&vm, 0);
    load(&vm, COUNT, sizeof COUNT);
    start_at(&vcpu, CODE, 20000);
    run_to_port(&vcpu);
    static const uint8_t FAULT[] = { 0x0f, 0x0b };
    load(&vm, FAULT, sizeof FAULT);
    start_at(&vcpu, CODE, 0);
    struct kvm_sregs special;
    CHECK(ioctl(vcpu.fd, KVM_GET_SREGS, &special) == 0);
    special.idt.limit = 0;
    CHECK(ioctl(vcpu.fd, KVM_SET_SREGS, &special) == 0);
    int result = ioctl(vcpu.fd, KVM_RUN, 0);
    printf("%d, exit %u, %u turns\n", result, vcpu.run->exit_reason, word(vm.memory));
}

/* The VMM reads registers from the run page, and writes them there. */
static void sync_registers(char **arguments)
{
    (void)arguments;
    struct vm vm = new_vm();
    struct vcpu vcpu = new_vcpu(&vm, 0);
    load(&vm, COUNT, sizeof COUNT);
    start_at(&vcpu, CODE, 2000);
    vcpu.run->kvm_valid_regs = KVM_SYNC_X86_REGS;
    unsigned long long sum = 0;
    for (int n = 0; n < 30; n++) {
        run_to_port(&vcpu);
        CHECK(vcpu.run->kvm_valid_regs == KVM_SYNC_X86_REGS || vcpu.run->kvm_valid_regs == 7);
        sum = sum * 31 + vcpu.run->s.regs.regs.rip + vcpu.run->s.regs.regs.rcx;
        vcpu.run->s.regs.regs.rcx = 1000 + n;
        vcpu.run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
    }
    printf("%u turns, %llx\n", word(vm.memory), sum);
}

static void dirty_log(char **arguments)
{
    (void)arguments;
    struct vm vm = new_vm();
    struct vcpu vcpu = new_vcpu(&vm, 0);
    load(&vm, COUNT, sizeof COUNT);
    set_slot(&vm, 0, 0, MEMORY, vm.memory, KVM_MEM_LOG_DIRTY_PAGES);
    for (int n = 0; n < 10; n++) {
        start_at(&vcpu, CODE, 5000);
        run_to_port(&vcpu);
        uint64_t pages = 0;
        struct kvm_dirty_log log = { .slot = 0, .dirty_bitmap = &pages };
        CHECK(ioctl(vm.fd, KVM_GET_DIRTY_LOG, &log) == 0);
        printf("%llx\n", (unsigned long long)pages);
    }
}

/* The pages that KVM says were written come in a ring, which has no place for what others write. */
static void dirty_ring(char **arguments)
{
    (void)arguments;
    enum { ENTRIES = 4096, BYTES = ENTRIES * sizeof(struct kvm_dirty_gfn) };
    struct vm vm = new_vm();
    struct kvm_enable_cap ring = { .cap = KVM_CAP_DIRTY_LOG_RING, .args = { BYTES } };
    if (ioctl(vm.fd, KVM_CHECK_EXTENSION, KVM_CAP_DIRTY_LOG_RING) < BYTES) {
        puts("this KVM has no dirty ring");
        return;
    }
    CHECK(ioctl(vm.fd, KVM_ENABLE_CAP, &ring) == 0);
    struct vcpu vcpu = new_vcpu(&vm, 0);
    load(&vm, COUNT, sizeof COUNT);
    set_slot(&vm, 0, 0, MEMORY, vm.memory, KVM_MEM_LOG_DIRTY_PAGES);
    struct kvm_dirty_gfn *entries =
        mmap(0, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu.fd, KVM_DIRTY_LOG_PAGE_OFFSET * 4096);
    CHECK(entries != MAP_FAILED);
    int next = 0;
    for (int n = 0; n < 10; n++) {
        /* Where KVM emulates the guest it makes an entry for each write. */
        start_at(&vcpu, CODE, 1000);
        run_to_port(&vcpu);
        uint64_t pages = 0;
        for (; entries[next].flags & KVM_DIRTY_GFN_F_DIRTY; next = (next + 1) % ENTRIES) {
            pages |= 1ull << entries[next].offset;
            entries[next].flags = KVM_DIRTY_GFN_F_RESET;
        }
        CHECK(ioctl(vm.fd, KVM_RESET_DIRTY_RINGS, 0) >= 0);
        printf("%llx\n", (unsigned long long)pages);
    }
    printf("%u turns\n", word(vm.memory));
}

/* A signal that stops everything comes from outside. It ends a KVM_RUN as any other does. */
static void stopped(char **arguments)
{
    may_be_interrupted = 1;
    int turns = argument(arguments, 300000);
    puts("begins");
    fflush(stdout);
    struct vm vm = new_vm();
    load(&vm, COUNT, sizeof COUNT);
    run_many(&vm, 1, 2, turns);
    printf("%u turns\n", word(vm.memory));
}

static void forever(char **arguments)
{
    (void)arguments;
    struct vm vm = new_vm();
    struct vcpu vcpu = new_vcpu(&vm, 0);
    load(&vm, FOREVER, sizeof FOREVER);
    start_at(&vcpu, CODE, 0);
    puts("begins");
    fflush(stdout);
    ioctl(vcpu.fd, KVM_RUN, 0);
}

/* Many short runs, with the signal mask and without. */
static void exits(char **arguments)
{
    int runs = argument(arguments, 2000);
    struct vm vm = new_vm();
    struct vcpu vcpu = new_vcpu(&vm, 0);
    static const uint8_t PORTS[] = { 0xee, 0xeb, 0xfd };
    load(&vm, PORTS, sizeof PORTS);
    start_at(&vcpu, CODE, 0);
    run_to_port(&vcpu);
    double begin = seconds();
    for (int n = 0; n < runs; n++)
        run_to_port(&vcpu);
    fprintf(stderr, "%.3f us\n", (seconds() - begin) / runs * 1e6);
    printf("%d runs\n", runs);
}

static void *ask(void *argument)
{
    struct vcpu *vcpu = argument;
    for (int n = 0; n < 300; n++) {
        struct kvm_mp_state state;
        CHECK(ioctl(vcpu->fd, KVM_GET_MP_STATE, &state) == 0);
    }
    over = 1;
    return 0;
}

/* Another thread asks for the state of a vCPU that is hardly ever out of KVM_RUN. */
static void asked(char **arguments)
{
    (void)arguments;
    struct vm vm = new_vm();
    struct vcpu vcpu = new_vcpu(&vm, 0);
    static const uint8_t PORTS[] = { 0xee, 0xeb, 0xfd };
    load(&vm, PORTS, sizeof PORTS);
    start_at(&vcpu, CODE, 0);
    run_to_port(&vcpu);
    pthread_t thread;
    CHECK(pthread_create(&thread, 0, ask, &vcpu) == 0);
    double begin = seconds();
    while (!over)
        run_to_port(&vcpu);
    pthread_join(thread, 0);
    printf("answered within a second per hundred %d\n", seconds() - begin < 3);
}

/* A child's system calls for some runs, as its parent counts them. */
static void system_calls(char **arguments)
{
    int runs = argument(arguments, 500);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct vm vm = new_vm();
        struct vcpu vcpu = new_vcpu(&vm, 0);
        static const uint8_t PORTS[] = { 0xee, 0xeb, 0xfd };
        load(&vm, PORTS, sizeof PORTS);
        start_at(&vcpu, CODE, 0);
        run_to_port(&vcpu);
        CHECK(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
        raise(SIGSTOP);
        for (int n = 0; n < runs; n++)
            run_to_port(&vcpu);
        raise(SIGSTOP);
        _exit(0);
    }
    int status, stops = 0, calls = 0;
    while (stops < 2) {
        CHECK(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
        if (WSTOPSIG(status) == SIGSTOP) {
            stops++;
            CHECK(ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD) == 0);
        } else if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
            calls++;
        }
        CHECK(ptrace(stops < 2 ? PTRACE_SYSCALL : PTRACE_CONT, child, 0, 0) == 0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    printf("%d entries and exits of system calls for %d runs\n", calls, runs);
}

static void run_scenario(char **arguments);

/* What follows, where a filter does not know kcmp(2), as those of some containers. */
static void without_kcmp(char **arguments)
{
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_kcmp, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = { .len = sizeof program / sizeof *program, .filter = program };
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0);
    CHECK(syscall(SYS_kcmp, getpid(), getpid(), 0, 0, 0) == -1 && errno == ENOSYS);
    run_scenario(arguments);
}

static const struct {
    const char *name;
    void (*run)(char **arguments);
} SCENARIOS[] = {
    { "count", count },
    { "reopen", reopen },
    { "move", move },
    { "slots", slots },
    { "fork", fork_before_and_after },
    { "debug", debug },
    { "mask", mask },
    { "immediate_exit", immediate_exit },
    { "block", block },
    { "many", many },
    { "busy", busy },
    { "two_vms", two_vms },
    { "triple_fault", triple_fault },
    { "sync_registers", sync_registers },
    { "dirty_log", dirty_log },
    { "dirty_ring", dirty_ring },
    { "without_kcmp", without_kcmp },
    { "stopped", stopped },
    { "forever", forever },
    { "exits", exits },
    { "asked", asked },
    { "system_calls", system_calls },
};

/* The name of one, and what is for it. */
static void run_scenario(char **arguments)
{
    for (size_t n = 0; n < sizeof SCENARIOS / sizeof *SCENARIOS; n++)
        if (arguments[0] && strcmp(SCENARIOS[n].name, arguments[0]) == 0) {
            SCENARIOS[n].run(arguments + 1);
            return;
        }
    exit(2);
}

int main(int count, char **arguments)
{
    CHECK(count >= 2);
    run_scenario(arguments + 1);
    return 0;
}
