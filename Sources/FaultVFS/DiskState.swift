import Base

/// Everything of a simulated disk, behind its mutex.
struct DiskState: Sendable {
  typealias FileID = DirectoryImage.FileID

  private var files: [FileID: ImageFile] = [:]
  private var directory = DirectoryImage()
  private var nextFile: FileID = 1
  private var nextHandle: Sharing.HandleID = 1
  /// Handles of an earlier life are dead.
  private(set) var life: UInt64 = 0
  /// Changes and syncs so far.
  private(set) var operations: UInt64 = 0
  private(set) var powerCuts = 0
  var faults = DiskFaults()
  /// How a life is to end by itself, and in the operation with which number.
  var end: (at: UInt64, isPowerCut: Bool)?
  /// Set: the operation with this number fails, and no other.
  var failAt: UInt64?
  let random: any RandomSource
  /// The newest operations as text, if somebody wants to see them.
  private(set) var trace: [String]?

  /// Operations that a trace keeps.
  static let maxTrace = 2000

  mutating func startTrace() { trace = [] }

  private mutating func note(_ text: String) {
    guard var lines = trace else { return }
    if lines.count >= Self.maxTrace { lines.removeFirst(Self.maxTrace / 2) }
    lines.append("\(operations) \(text)")
    trace = lines
  }

  private func name(_ file: FileID) -> String {
    directory.current.first { $0.value == file }?.key ?? "#\(file)"
  }

  init(random: any RandomSource) { self.random = random }

  // MARK: Operations

  /// Runs one operation that changes something, and the end that falls into it: behind a change, before a sync, since
  /// a sync that was not answered promises nothing.
  private mutating func change(
    _ life: UInt64, _ kind: DiskFaults.Operation, _ what: (DiskState) -> String,
    _ body: (inout DiskState) throws(DiskError) -> Void
  ) throws(DiskError) {
    guard life == self.life else { throw .dead }
    operations += 1
    let text = trace == nil ? "" : what(self)
    do throws(DiskError) {
      try changeNow(kind, body)
      note(text)
    } catch {
      note("\(text) failed with \(error.code)")
      throw error
    }
  }

  private mutating func changeNow(
    _ kind: DiskFaults.Operation, _ body: (inout DiskState) throws(DiskError) -> Void
  ) throws(DiskError) {
    if failAt == operations {
      failAt = nil
      throw kind == .sync ? .sync : .write
    }
    let ending = end.flatMap { operations >= $0.at ? $0 : nil }
    if ending == nil || kind != .sync {
      if kind != .sync, fails(kind) { throw .write }
      try body(&self)
    }
    if let ending {
      if ending.isPowerCut { powerCut() } else { crash() }
      throw .dead
    }
  }

  private func fails(_ kind: DiskFaults.Operation) -> Bool {
    faults.failing.contains(kind) && (faults.failsOneIn <= 1 || random.below(faults.failsOneIn) == 0)
  }

  private func makeRoom(_ more: Int) throws(DiskError) {
    guard more > 0, let capacity = faults.capacity else { return }
    if usedBytes + more > capacity { throw .full }
  }

  var usedBytes: Int { directory.current.values.reduce(0) { $0 + (files[$1]?.size ?? 0) } }

  // MARK: Files by handle

  /// What a handle needs to know of its file.
  struct Opened: Sendable {
    let file: FileID
    let life: UInt64
    let handle: Sharing.HandleID
    let sharing: Sharing
  }

  /// Opens a name, or a file without one.
  mutating func open(_ path: String?, creates: Bool, isExclusive: Bool) throws(DiskError) -> Opened {
    let life = life
    let found = path.flatMap { directory[$0] }
    if found != nil, isExclusive { throw .cannotOpen }
    if found == nil {
      guard creates || path == nil else { throw .cannotOpen }
      try change(life, .write, { "create \(path ?? "#\($0.nextFile)")" }) { (state) throws(DiskError) in
        state.files[state.nextFile] = ImageFile()
        if let path { state.directory.link(path, state.nextFile) }
        state.nextFile += 1
      }
    }
    let file = found ?? nextFile - 1
    files[file]?.handles += 1
    defer { nextHandle += 1 }
    return Opened(file: file, life: life, handle: nextHandle, sharing: files[file]?.sharing ?? Sharing())
  }

  mutating func close(_ opened: Opened) {
    opened.sharing.close(by: opened.handle)
    guard opened.life == life else { return }
    files[opened.file]?.handles -= 1
    collect()
  }

  func isAlive(_ opened: Opened) -> Bool { opened.life == life }

  func read(_ opened: Opened, _ buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(DiskError) -> Int {
    guard isAlive(opened), let file = files[opened.file] else { throw .dead }
    if fails(.read) { throw .read }
    return try file.read(buffer, at: offset)
  }

  func size(_ opened: Opened) throws(DiskError) -> Int {
    guard isAlive(opened), let file = files[opened.file] else { throw .dead }
    return file.size
  }

  mutating func write(_ opened: Opened, _ bytes: UnsafeRawBufferPointer, at offset: Int) throws(DiskError) {
    try change(
      opened.life, .write, { "write \($0.name(opened.file)) \(bytes.count) at \(offset)" }
    ) { (state) throws(DiskError) in
      try state.makeRoom(offset + bytes.count - (state.files[opened.file]?.size ?? 0))
      try state.files[opened.file]?.write(bytes, at: offset)
    }
  }

  mutating func resize(_ opened: Opened, to size: Int) throws(DiskError) {
    try change(opened.life, .write, { "resize \($0.name(opened.file)) to \(size)" }) { (state) throws(DiskError) in
      try state.makeRoom(size - (state.files[opened.file]?.size ?? 0))
      try state.files[opened.file]?.resize(to: size)
    }
  }

  mutating func sync(_ opened: Opened) throws(DiskError) {
    try change(opened.life, .sync, { "sync \($0.name(opened.file))" }) { (state) throws(DiskError) in
      if state.fails(.sync) {
        try state.files[opened.file]?.lose(Survival(random: state.random))
        throw .sync
      }
      if !state.faults.ignoresSyncs { try state.files[opened.file]?.sync() }
    }
  }

  // MARK: Names

  func exists(_ path: String) -> Bool { directory[path] != nil }

  func size(of path: String) -> Int? { directory[path].flatMap { files[$0]?.size } }

  func content(of path: String) -> Bytes? { directory[path].flatMap { files[$0]?.content() } }

  var paths: [String] { directory.current.keys.sorted() }

  mutating func unlink(_ path: String) throws(DiskError) {
    guard directory[path] != nil else { throw .noSuchFile }
    try change(life, .write, { _ in "unlink \(path)" }) { (state) throws(DiskError) in state.directory.unlink(path) }
    collect()
  }

  mutating func rename(_ path: String, to new: String) throws(DiskError) {
    guard directory[path] != nil else { throw .noSuchFile }
    try change(life, .write, { _ in "rename \(path) \(new)" }) { (state) throws(DiskError) in
      state.directory.rename(path, to: new)
    }
    collect()
  }

  mutating func syncDirectory(_ path: String) throws(DiskError) {
    try change(life, .sync, { _ in "sync directory \(path)/" }) { (state) throws(DiskError) in
      if state.fails(.sync) { throw .directorySync }
      if !state.faults.ignoresDirectorySyncs { state.directory.sync(path) }
    }
    collect()
  }

  // MARK: Ends of a life

  /// The processes on the machine die; the kernel lives and brings everything to the disk in its own time.
  mutating func crash() {
    end = nil
    life += 1
    let number = life
    note("life \(number) begins")
    for file in files.keys {
      files[file]?.handles = 0
      files[file]?.sharing = Sharing()
    }
    collect()
  }

  mutating func powerCut() {
    powerCuts += 1
    note("the power fails")
    directory.lose(random: random)
    let survival = Survival(random: random)
    // In the order of their numbers: a seed must decide alike in every run.
    for file in files.keys.sorted() where files[file]?.hasPendingChanges == true {
      _ = resultCode { () throws(DiskError) in try files[file]?.lose(survival) }
    }
    crash()
  }

  /// Files that no name leads to and nobody has open.
  private mutating func collect() {
    let reachable = directory.reachable
    if reachable.count == files.count { return }
    for file in files.keys where files[file]?.handles ?? 0 == 0 && !reachable.contains(file) { files[file] = nil }
  }

  // MARK: Images

  var image: [String: Bytes] {
    directory.current.compactMapValues { files[$0]?.content() }
  }

  /// The disk holds these files and no others, durably; whoever had a file open is dead.
  mutating func restore(_ image: [String: Bytes]) {
    crash()
    files = [:]
    directory = DirectoryImage()
    for path in image.keys.sorted() {
      files[nextFile] = ImageFile(image[path] ?? [])
      directory.link(path, nextFile)
      nextFile += 1
    }
    directory.settle()
  }
}
