/* A guest in C, written from docs/abi.md alone: three exports and an import. */

#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#define AT_AMPOULE 0x414d5001

enum { ABI = 1, EXPORT = 2, IMPORT = 3 };

/* Section 1: records of the image. */
struct record {
    uint32_t size;
    uint16_t kind;
    uint16_t reserved;
    uint64_t value;
    uint32_t name_len;
    uint32_t signature_len;
    char text[64];
};

#define RECORD(variable, kind_, value_, name, signature)                                                          \
    __attribute__((section("ampoule_fns"), used, retain, aligned(8))) static const struct record variable = {     \
        sizeof(struct record), kind_, 0, value_, sizeof(name) - 1, sizeof(signature) - 1, name signature}

RECORD(abi, ABI, (uint64_t)1 << 32, "", "");
RECORD(export_add, EXPORT, 0, "add", "fn(u32, u32) -> u32");
RECORD(export_greet, EXPORT, 0, "greet", "fn(&str) -> Result<String, String>");
RECORD(export_shout, EXPORT, 0, "shout", "fn(Reader, Writer) -> Result<u64, String>");
RECORD(import_weekday, IMPORT, 0, "weekday", "fn(u32) -> String");

extern const char __start_ampoule_fns[];

static uint32_t number_of(const struct record *record) {
    return (uint32_t)((const char *)record - __start_ampoule_fns);
}

/* Section 2: the info page. */
struct info_page {
    uint64_t magic;
    uint32_t abi_major, abi_minor;
    void (*entry)(void);
    volatile struct line *host_line, *guest_line;
    const char *inbound;
    uint64_t inbound_len;
    char *outbound;
    uint64_t outbound_len;
    uint64_t generation;            /* since 1.1 */
    char *output;                   /* since 1.2 */
    uint64_t output_len;            /* since 1.2 */
};

/* Section 4: messages, the first 32 bytes of their lines. */
struct line {
    uint64_t sequence;
    uint32_t kind, function, length, status;
    uint64_t needed;
};

enum { READY = 1, RETURN = 2, HOST_CALL = 3, READ_STREAM = 5, WRITE_STREAM = 6 };
enum { CALL = 1, REPLY = 2 };
enum { DONE = 0, FAILED = 1, UNKNOWN_FUNCTION = 4 };

static const struct info_page *info;
static uint64_t host_calls;

static void ring(uint32_t kind, uint64_t sequence, uint32_t function, uint32_t length, uint32_t status) {
    *info->guest_line = (struct line){sequence, kind, function, length, status, 0};
    info->entry();
}

/* Asks for the next piece of a stream, 1,000 bytes at most, or writes one. Returns whether the host has done it. */
static int ring_for_stream(uint32_t kind, uint64_t stream, uint32_t length) {
    uint32_t status = kind == READ_STREAM ? 1000 : 0;
    *info->guest_line = (struct line){++host_calls, kind, 0, length, status, stream};
    info->entry();
    return info->host_line->kind == REPLY;
}

/* Prints to a standard stream without leaving, where the host looks for it and there is room. */
static void print(uint16_t stream, const char *text) {
    uint16_t len = (uint16_t)strlen(text);
    volatile uint32_t *printed = (volatile uint32_t *)((volatile char *)info->guest_line + 32);
    if (info->abi_minor < 2 || *printed + 4 + len > info->output_len) {
        if (write(stream, text, len) < 0)
            _exit(4);
        return;
    }
    char *record = info->output + *printed;
    memcpy(record, &stream, 2);
    memcpy(record + 2, &len, 2);
    memcpy(record + 4, text, len);
    __asm__ volatile("" ::: "memory");
    *printed += 4 + len;
}

static uint32_t put_string(const char *text, uint32_t len) {
    memcpy(info->outbound, &len, 4);
    memmove(info->outbound + 4, text, len);
    return 4 + len;
}

/* Asks the host for the name of a day; copies it to `name` and returns its length, or -1. */
static int weekday(uint32_t day, char name[16]) {
    memcpy(info->outbound, &day, 4);
    ring(HOST_CALL, ++host_calls, number_of(&import_weekday), 4, 0);
    uint32_t len;
    memcpy(&len, info->outbound, 4);
    if (info->host_line->kind != REPLY || len > 16)
        return -1;
    memcpy(name, info->outbound + 4, len);
    return (int)len;
}

/* Prints as guests do that know nothing of the output area. */
static uint32_t add(void) {
    if (write(STDERR_FILENO, "adding\n", 7) != 7)
        _exit(4);
    uint32_t a, b;
    memcpy(&a, info->inbound, 4);
    memcpy(&b, info->inbound + 4, 4);
    a += b;
    memcpy(info->outbound, &a, 4);
    return 4;
}

static uint32_t greet(uint32_t *status) {
    uint32_t len;
    memcpy(&len, info->inbound, 4);
    char text[256] = "Hello, ", day[16];
    print(STDOUT_FILENO, "asking for the day\n");
    int day_len = weekday(1, day);
    print(STDERR_FILENO, day_len < 0 ? "there is none\n" : "there is one\n");
    print(STDOUT_FILENO, "greeting\n");
    if (len > 100 || day_len < 0) {
        *status = FAILED;
        return put_string("no day, or too long a name", 26);
    }
    char *end = text + strlen(text);
    memcpy(end, info->inbound + 4, len);
    end += len;
    memcpy(end, " on ", 4);
    memcpy(end + 4, day, (size_t)day_len);
    return put_string(text, (uint32_t)(end + 4 + day_len - text));
}

/* Section 4, streams: copies one to another, in capitals. */
static uint32_t shout(uint32_t *status) {
    uint64_t input, output, bytes = 0;
    memcpy(&input, info->inbound, 8);
    memcpy(&output, info->inbound + 8, 8);
    while (info->abi_minor >= 6 && ring_for_stream(READ_STREAM, input, 0)) {
        uint32_t length = info->host_line->length;
        if (length == 0) {
            memcpy(info->outbound, &bytes, 8);
            return 8;
        }
        for (uint32_t at = 0; at < length; at++)
            if (info->outbound[at] >= 'a' && info->outbound[at] <= 'z')
                info->outbound[at] -= 'a' - 'A';
        if (!ring_for_stream(WRITE_STREAM, output, length))
            break;
        bytes += length;
    }
    *status = FAILED;
    return put_string("a stream failed", 15);
}

int main(void) {
    info = (const struct info_page *)getauxval(AT_AMPOULE);
    if (!info)
        return 2;
    ring(READY, 0, 0, 0, 0);
    for (;;) {
        const struct line call = *info->host_line;
        uint32_t status = DONE, length = 0;
        if (call.kind != CALL)
            return 3;
        if (call.function == number_of(&export_add))
            length = add();
        else if (call.function == number_of(&export_greet))
            length = greet(&status);
        else if (call.function == number_of(&export_shout))
            length = shout(&status);
        else
            status = UNKNOWN_FUNCTION;
        ring(RETURN, call.sequence, call.function, length, status);
    }
}
