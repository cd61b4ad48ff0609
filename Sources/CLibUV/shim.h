#pragma once
#include <malloc.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <uv.h>

// The process's environment: a mutable C global, which Swift 6 does not import.
extern char **environ;
static inline char **skerry_environment(void) { return environ; }

// Names the calling thread, for ps and perf (prctl is variadic).
static inline void skerry_name_thread(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }

// Who is at the other end of a Unix socket; 0 on success. The struct is the kernel's `struct ucred`.
struct skerry_credentials { int pid; unsigned uid; unsigned gid; };
static inline int skerry_peer_credentials(int fd, struct skerry_credentials *out) {
  socklen_t length = sizeof(*out);
  return getsockopt(fd, SOL_SOCKET, 17 /* SO_PEERCRED, behind _GNU_SOURCE in some headers */, out, &length);
}

// What malloc has given out: small pieces of all arenas, and large ones, which are mapped one by one.
static inline long skerry_allocated_bytes(void) {
  struct mallinfo2 info = mallinfo2();
  return (long)(info.uordblks + info.hblkhd);
}

// Gives pages back: those that malloc keeps, once they are an eighth of what is in use, and those of code, which is mapped
// from its file and never written, so that letting go of it loses nothing.
static inline void skerry_trim_memory(void) {
  struct mallinfo2 info = mallinfo2();
  if (info.fordblks > ((size_t)1 << 20) && info.fordblks > info.uordblks / 8) malloc_trim((size_t)256 << 10);
  FILE *maps = fopen("/proc/self/maps", "re");
  char line[512];
  while (maps != NULL && fgets(line, sizeof(line), maps) != NULL) {
    unsigned long start, end;
    char kind[5];
    if (sscanf(line, "%lx-%lx %4s", &start, &end, kind) != 3 || strcmp(kind, "r-xp") != 0) continue;
    // The kernel's own pages have no path.
    if (strchr(line, '/') != NULL) madvise((void *)start, end - start, MADV_DONTNEED);
  }
  if (maps != NULL) fclose(maps);
}
