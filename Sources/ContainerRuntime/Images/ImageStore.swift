import Base
import EventLoop
import ObjectModel

/// Images, each unpacked once a digest into `images/<hex>/rootfs`, which containers use as the lower layer of their
/// overlay and nobody writes to.
///
/// An image is made in a directory with a temporary name, synced, and renamed into place: what has its final name
/// is whole. What a crash leaves has a temporary name and goes at the next start.
@LoopActor final class ImageStore {
  /// Pulled at one time; more wait. Keeps a link from being shared by too many.
  static let maxConcurrentPulls = 2
  /// Layers of one image; a manifest that names more is refused.
  nonisolated static let maxLayers = 256

  struct Image: Sendable, Hashable {
    var status: ImageStatus
    var config: ImageConfig
    /// By reference, what the registry called it: asked again by `PullPolicy.always`.
    var sources: [String: String]
  }

  private let layout: RuntimeLayout
  private let tool: Tool
  private let random: any RandomSource
  private let scheduler: any Scheduler
  private let gates = Gates()
  private var images: [String: Image] = [:]
  private var turn = 0
  /// How often progress is told.
  var progressInterval: Duration = .milliseconds(500)
  /// Where an image comes from, with the file of its credentials; tests put sources of their own here.
  lazy var makeSource: @LoopActor (ImageReference, String?) -> any ImageSource = { [tool] reference, credentials in
    SkopeoSource(reference: reference, tool: tool, credentials: credentials)
  }

  /// Called while an image is fetched, with its name and the bytes that have arrived.
  var onProgress: (@LoopActor (_ image: String, _ bytes: Int64) -> Void)?

  init(_ layout: RuntimeLayout, tool: Tool, random: any RandomSource, scheduler: any Scheduler) {
    self.layout = layout
    self.tool = tool
    self.random = random
    self.scheduler = scheduler
  }

  var list: [ImageStatus] { images.values.map(\.status).sorted { $0.digest < $1.digest } }

  /// Reads what is there, and removes what a crash left half-made.
  func recover() async throws(SkerryError) {
    let directory = layout.images
    let found = try await blocking { () throws(SkerryError) -> [Image] in
      try Files.makeDirectory(directory)
      var images: [Image] = []
      for name in Files.list(directory) {
        let path = "\(directory)/\(name)"
        guard !name.hasPrefix("."), let value = try? Records.read("\(path)/record.json"),
          let image = Image(value)
        else {
          try Files.removeTree(path)
          continue
        }
        images.append(image)
      }
      return images
    }
    images = Dictionary(uniqueKeysWithValues: found.map { ($0.status.digest, $0) })
  }

  func config(_ digest: String) throws(SkerryError) -> ImageConfig {
    guard let image = images[digest] else {
      throw SkerryError(.notFound, "image \(digest) is not on this node; pull it first")
    }
    return image.config
  }

  nonisolated static func directory(_ layout: RuntimeLayout, _ digest: String) -> String {
    "\(layout.images)/\(digest.dropFirst("sha256:".count))"
  }

  func rootfs(_ digest: String) -> String { "\(Self.directory(layout, digest))/rootfs" }

  // MARK: pull

  func pull(_ text: String, _ policy: PullPolicy, _ credentials: RegistryCredentials?) async throws(SkerryError)
    -> ImageStatus
  {
    let reference = try ImageReference(text)
    // One pull a name at a time: the second finds what the first brought.
    return try await gates.with("name \(text)") { () throws(SkerryError) in
      let known = images.values.first { $0.status.references.contains(text) }
      if policy != .always, let known { return known.status }
      if policy == .never {
        throw SkerryError(.notFound, "image \(text) is not on this node and its pull policy is Never")
      }
      turn += 1
      return try await gates.with("slot \(turn % Self.maxConcurrentPulls)") { () throws(SkerryError) in
        do throws(SkerryError) {
          return try await fetch(reference, known: known, credentials)
        } catch {
          throw SkerryError(error.code, "cannot pull image \(text)", cause: error)
        }
      }
    }
  }

  private func fetch(_ reference: ImageReference, known: Image?, _ credentials: RegistryCredentials?)
    async throws(SkerryError) -> ImageStatus
  {
    let work = "\(layout.images)/.new-\(random.bytes(8).hex)"
    let secret = "\(layout.volatile)/auth-\(random.bytes(8).hex)"
    var authFile: String?
    if let credentials, reference.kind == .registry {
      let bytes = AuthFile.bytes(registry: AuthFile.registry(of: reference), credentials)
      try await blocking { () throws(SkerryError) in try Files.write(secret, bytes, mode: 0o600) }
      authFile = secret
    }
    let source = makeSource(reference, authFile)
    let result: Result<Image, SkerryError>
    do throws(SkerryError) {
      result = .success(try await fetch(reference, source, known, work))
    } catch {
      result = .failure(error)
    }
    let leftovers = authFile
    try await blocking { () throws(SkerryError) in
      try Files.removeTree(work)
      if let leftovers { try Files.removeFile(leftovers) }
    }
    return try result.get().status
  }

  private func fetch(_ reference: ImageReference, _ source: any ImageSource, _ known: Image?, _ work: String)
    async throws(SkerryError) -> Image
  {
    let current = try await source.currentDigest()
    if let known, let current, known.sources[reference.text] == current { return known }
    let content = "\(work)/layout"
    try await blocking { () throws(SkerryError) in try Files.makeDirectory(work) }
    let progress = Progress(reference.text, content, progressInterval, scheduler, onProgress)
    defer { progress.stop() }
    try await source.fetch(into: content)
    progress.stop()

    let manifest = try await blocking { () throws(SkerryError) in try OCILayout.manifest(content) }
    try await verify(manifest, content)
    var image =
      images[manifest.digest]
      ?? Image(
        status: ImageStatus(digest: manifest.digest, references: [], bytes: manifest.bytes), config: manifest.config,
        sources: [:])
    let isNew = images[manifest.digest] == nil
    image.adopt(reference.text, source: current)
    if isNew {
      try await unpack(image, content, "\(work)/image")
    } else {
      try await save(image)
    }
    // The name has moved: the image that had it keeps its other names, and goes when nobody uses it.
    for (digest, other) in images where digest != manifest.digest && other.status.references.contains(reference.text) {
      var other = other
      other.disown(reference.text)
      try await save(other)
    }
    return image
  }

  /// Checks the manifest, the configuration and each layer against the digests that name them. umoci checks while
  /// it unpacks as well; this check does not rest on it, and comes before anything is unpacked.
  private func verify(_ manifest: OCILayout.Manifest, _ content: String) async throws(SkerryError) {
    let paths = manifest.blobs.map { "\(content)/blobs/sha256/\($0)" }
    let output = try await tool.run(["sha256sum", "--"] + paths, deadline: SkopeoSource.deadline)
    let sums = String(decoding: output, as: UTF8.self).split(separator: "\n").map { $0.prefix(64) }
    guard sums.count == manifest.blobs.count else {
      throw SkerryError(.corrupt, "sha256sum answered for \(sums.count) of \(manifest.blobs.count) blobs")
    }
    for (sum, name) in zip(sums, manifest.blobs) where sum != name {
      throw SkerryError(.corrupt, "blob sha256:\(name) has the digest sha256:\(sum); it was altered on its way")
    }
  }

  private func unpack(_ image: Image, _ content: String, _ made: String) async throws(SkerryError) {
    try await blocking { () throws(SkerryError) in try Files.makeDirectory(made) }
    try await tool.run(
      ["umoci", "raw", "unpack", "--image", "\(content):\(ImageReference.layoutTag)", "\(made)/rootfs"],
      deadline: SkopeoSource.deadline)
    let target = Self.directory(layout, image.status.digest)
    let record = image.value
    try await blocking { () throws(SkerryError) in try Records.write("\(made)/record.json", record) }
    // The whole file system: one image has too many files to sync one by one.
    try await tool.run(["sync", "-f", made], deadline: SkopeoSource.deadline)
    try await blocking { () throws(SkerryError) in
      try Files.removeTree(target)
      try Files.rename(made, to: target)
    }
    images[image.status.digest] = image
  }

  private func save(_ image: Image) async throws(SkerryError) {
    let path = "\(Self.directory(layout, image.status.digest))/record.json"
    let record = image.value
    try await blocking { () throws(SkerryError) in try Records.write(path, record) }
    images[image.status.digest] = image
  }

  /// Removes an image that nobody uses; the caller has checked that.
  func remove(_ digest: String) async throws(SkerryError) {
    guard images.removeValue(forKey: digest) != nil else { return }
    let path = Self.directory(layout, digest)
    let gone = "\(layout.images)/.old-\(random.bytes(8).hex)"
    try await blocking { () throws(SkerryError) in
      try Files.rename(path, to: gone)
      try Files.removeTree(gone)
    }
  }
}

extension ImageStore.Image {
  mutating func adopt(_ reference: String, source: String?) {
    if !status.references.contains(reference) { status.references.append(reference) }
    sources[reference] = source
  }

  mutating func disown(_ reference: String) {
    status.references.removeAll { $0 == reference }
    sources[reference] = nil
  }

  var value: Value {
    [
      "version": 1, "digest": .string(status.digest), "bytes": .int(status.bytes),
      "references": .array(status.references.map { .string($0) }), "sources": Value(sources), "image": config.value,
    ]
  }

  init?(_ value: Value) {
    guard value["version"].int == 1, let digest = value["digest"].string, let bytes = value["bytes"].int else {
      return nil
    }
    status = ImageStatus(
      digest: digest, references: (value["references"].array ?? []).compactMap(\.string), bytes: bytes)
    config = ImageConfig(document: value["image"])
    sources = value["sources"].stringMap
  }
}

/// Tells how much of an image has arrived, while it does.
@LoopActor private final class Progress {
  private let image: String
  private let path: String
  private let interval: Duration
  private let scheduler: any Scheduler
  private var report: (@LoopActor (String, Int64) -> Void)?

  init(
    _ image: String, _ path: String, _ interval: Duration, _ scheduler: any Scheduler,
    _ report: (@LoopActor (String, Int64) -> Void)?
  ) {
    self.image = image
    self.path = path
    self.interval = interval
    self.scheduler = scheduler
    self.report = report
    if report != nil { next() }
  }

  func stop() { report = nil }

  private func next() {
    scheduler.schedule(after: interval) { [weak self] in
      guard let self, report != nil else { return }
      spawn { await self.measure() }
    }
  }

  private func measure() async {
    let path = path
    let bytes = try? await blocking { () throws(SkerryError) in Files.treeBytes(path) }
    guard let bytes, let report else { return }
    report(image, bytes)
    next()
  }
}
