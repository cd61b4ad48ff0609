#pragma once
#include <malloc.h>
#include <stddef.h>

// What Swift has no word for: asks the processor to bring `count` cache lines of 64 bytes from `address` on nearer, without
// waiting for them. It reads nothing: an address that is no memory any more does no harm.
static inline void skerry_prefetch(const void *address, unsigned count) {
  for (unsigned index = 0; index < count; index++) __builtin_prefetch((const char *)address + 64 * (size_t)index);
}

// The bytes that malloc gave for an object.
static inline size_t skerry_allocated_size(void *object) { return malloc_usable_size(object); }

// Tells the processor that this is a loop which waits for another core.
static inline void skerry_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}
