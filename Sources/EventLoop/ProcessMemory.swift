import Base
import CLibUV

/// The memory of this process, as its own allocator counts it.
package enum ProcessMemory {
  /// The name of the metric that tells `allocatedBytes`.
  package static let metric = "skerry_process_allocated_bytes"
  /// How often a daemon gives back what it does not need.
  package static let trimInterval = Duration.seconds(30)

  /// Bytes that the allocator has given out and not got back. What the kernel counts beyond that is kept for later, or
  /// never came from the allocator: stacks, the program, mapped files. It looks through all arenas: not for hot paths.
  package static var allocatedBytes: Int { skerry_allocated_bytes() }

  /// Gives back what the allocator keeps, if that is much, and lets go of the program's own pages: most of them ran once,
  /// when the daemon started. Those that run again are mapped again from the page cache, a microsecond each.
  package static func trim() { skerry_trim_memory() }
}
