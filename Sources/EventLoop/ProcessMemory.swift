import CLibUV

/// The memory of this process, as its own allocator counts it.
package enum ProcessMemory {
  /// The name of the metric that tells `allocatedBytes`.
  package static let metric = "skerry_process_allocated_bytes"

  /// Bytes that the allocator has given out and not got back. What the kernel counts beyond that is kept for later, or
  /// never came from the allocator: stacks, the program, mapped files. It looks through all arenas: not for hot paths.
  package static var allocatedBytes: Int { skerry_allocated_bytes() }
}
