import CSQLite
import Glibc

/// A VFS that SQLite knows by name, over a disk of ours; forgotten when nobody holds it and no file of it is open.
///
/// The C structure is written here alone and only read by SQLite, whose list of them has a lock of its own (the reason
/// for `@unchecked Sendable`).
final class VFSRegistration: @unchecked Sendable {
  let name: String
  let disk: any VFSDisk
  private let raw: UnsafeMutablePointer<sqlite3_vfs>
  private let rawName: UnsafeMutablePointer<CChar>

  /// Over a VFS that gives everything but files, names and full paths, if there is one; else over nothing of this
  /// machine: no time passes, and nothing is random.
  init(name: String, disk: any VFSDisk, over base: UnsafeMutablePointer<sqlite3_vfs>? = nil, isDefault: Bool = false) {
    // SQLite starts by itself at the first connection; a registration may come before that.
    sqlite3_initialize()
    self.name = name
    self.disk = disk
    guard let copy = strdup(name) else { preconditionFailure("no memory for a name") }
    rawName = copy
    raw = .allocate(capacity: 1)
    raw.initialize(to: base?.pointee ?? Self.bare())
    raw.pointee.iVersion = 2
    raw.pointee.szOsFile = Int32(FileBox.bytes)
    raw.pointee.pNext = nil
    raw.pointee.zName = UnsafePointer(copy)
    raw.pointee.pAppData = Unmanaged.passUnretained(self).toOpaque()
    Self.setFiles(&raw.pointee)
    sqlite3_vfs_register(raw, isDefault ? 1 : 0)
  }

  deinit {
    sqlite3_vfs_unregister(raw)
    raw.deallocate()
    free(rawName)
  }

  private static func of(_ raw: UnsafeMutablePointer<sqlite3_vfs>?) -> VFSRegistration {
    guard let data = raw?.pointee.pAppData else { preconditionFailure("SQLite called a VFS without its data") }
    return Unmanaged<VFSRegistration>.fromOpaque(data).takeUnretainedValue()
  }

  private static func setFiles(_ vfs: inout sqlite3_vfs) {
    vfs.xOpen = { raw, name, file, flags, out in
      guard let file else { return SQLITE_CANTOPEN }
      file.pointee.pMethods = nil
      return resultCode { () throws(DiskError) in
        let registration = VFSRegistration.of(raw)
        let opened = try registration.disk.open(name, flags)
        FileBox(opened.file, registration).install(in: file)
        out?.pointee = opened.flags
      }
    }
    vfs.xDelete = { raw, name, sync in
      guard let name else { return SQLITE_IOERR }
      return resultCode { () throws(DiskError) in
        try VFSRegistration.of(raw).disk.delete(String(cString: name), syncsDirectory: sync != 0)
      }
    }
    vfs.xAccess = { raw, name, question, out in
      guard let name else { return SQLITE_IOERR }
      out?.pointee = VFSRegistration.of(raw).disk.access(String(cString: name), question) ? 1 : 0
      return SQLITE_OK
    }
  }

  /// A machine without clock and randomness. Paths are what they are.
  private static func bare() -> sqlite3_vfs {
    var vfs = sqlite3_vfs()
    vfs.mxPathname = 512
    vfs.xFullPathname = { _, name, room, out in
      guard let name, let out, strlen(name) < Int(room) else { return SQLITE_CANTOPEN }
      strcpy(out, name)
      return SQLITE_OK
    }
    vfs.xRandomness = { _, count, out in
      if let out { memset(out, 0, Int(count)) }
      return count
    }
    vfs.xSleep = { _, microseconds in microseconds }
    // Noon of 1 January 1970 as a Julian day, and that in milliseconds.
    vfs.xCurrentTime = { _, out in
      out?.pointee = 2_440_588
      return SQLITE_OK
    }
    vfs.xCurrentTimeInt64 = { _, out in
      out?.pointee = 2_440_588 * 86_400_000
      return SQLITE_OK
    }
    vfs.xGetLastError = { _, _, _ in 0 }
    return vfs
  }
}
