/* What a program on the board needs: vectors, a start, and output through the debugger (semihosting). It initialises no
   data, since a generated model has none. The program is `run`, which prints numbers with `print_bits`. */

#include <stddef.h>
#include <stdint.h>

void run(void);
void print_bits(float value);

extern uint32_t top_of_stack;

static int32_t ask_host(int32_t operation, const void *argument)
{
    register int32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

/* A number as its bits, 8 hexadecimal digits and an end of line. */
void print_bits(float value)
{
    union { float value; uint32_t bits; } number;
    char text[10];
    number.value = value;
    for (int digit = 0; digit < 8; digit++) text[digit] = "0123456789abcdef"[number.bits >> (28 - 4 * digit) & 15];
    text[8] = '\n';
    text[9] = 0;
    ask_host(4, text);
}

void start(void)
{
    *(volatile uint32_t *)0xe000ed88 |= 0xfu << 20; /* the floating point unit is on */
    __asm__ volatile("dsb\n isb");
    run();
    ask_host(0x18, (const void *)0x20026); /* the program ends */
    for (;;) {}
}

static void stop(void)
{
    ask_host(4, "fault\n");
    ask_host(0x18, (const void *)0x20026);
    for (;;) {}
}

__attribute__((section(".vectors"), used)) static void *const vectors[16] = {
    &top_of_stack, (void *)start, (void *)stop, (void *)stop, (void *)stop, (void *)stop, (void *)stop,
};

/* What compilers call for loops that copy or clear memory. */
void *memcpy(void *restrict to, const void *restrict from, size_t count);
void *memset(void *to, int byte, size_t count);

__attribute__((optnone)) void *memcpy(void *restrict to, const void *restrict from, size_t count)
{
    for (size_t i = 0; i < count; i++) ((char *)to)[i] = ((const char *)from)[i];
    return to;
}

__attribute__((optnone)) void *memset(void *to, int byte, size_t count)
{
    for (size_t i = 0; i < count; i++) ((char *)to)[i] = (char)byte;
    return to;
}
