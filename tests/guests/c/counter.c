/* The smallest guest that has something to remember: it counts its calls. docs/abi.md has what it does here. */

#include <stdint.h>

#define AT_AMPOULE 0x414d5001

enum { ABI = 1, EXPORT = 2 };

struct record {
    uint32_t size;
    uint16_t kind;
    uint16_t reserved;
    uint64_t value;
    uint32_t name_len;
    uint32_t signature_len;
    char text[32];
};

#define RECORD(variable, kind_, value_, name, signature)                                                          \
    __attribute__((section("ampoule_fns"), used, retain, aligned(8))) static const struct record variable = {     \
        sizeof(struct record), kind_, 0, value_, sizeof(name) - 1, sizeof(signature) - 1, name signature}

RECORD(abi, ABI, (uint64_t)1 << 32, "", "");
RECORD(export_count, EXPORT, 0, "count", "fn() -> u32");

struct line {
    uint64_t sequence;
    uint32_t kind, function, length, status;
    uint64_t needed;
};

struct info_page {
    uint64_t magic;
    uint32_t abi_major, abi_minor;
    void (*entry)(void);
    volatile struct line *host_line, *guest_line;
    const char *inbound;
    uint64_t inbound_len;
    char *outbound;
};

enum { READY = 1, RETURN = 2 };

static uint32_t count = 1000;

static void ring(const struct info_page *info, uint32_t kind, uint64_t sequence, uint32_t function, uint32_t length) {
    volatile struct line *line = info->guest_line;
    line->sequence = sequence;
    line->kind = kind;
    line->function = function;
    line->length = length;
    line->status = 0;
    line->needed = 0;
    info->entry();
}

/* The auxiliary vector is behind the arguments and the environment, each of which ends with a zero. */
__attribute__((used)) static void start(const uint64_t *stack) {
    const uint64_t *at = stack + 1;
    for (int zeros = 0; zeros < 2; at++)
        zeros += *at == 0;
    while (*at != AT_AMPOULE)
        at += 2;
    const struct info_page *info = (const struct info_page *)at[1];
    ring(info, READY, 0, 0, 0);
    for (;;) {
        uint64_t sequence = info->host_line->sequence;
        uint32_t function = info->host_line->function;
        *(volatile uint32_t *)info->outbound = ++count;
        ring(info, RETURN, sequence, function, sizeof count);
    }
}

__asm__(".globl _start\n_start: mov %rsp, %rdi\nand $-16, %rsp\ncall start\n");
