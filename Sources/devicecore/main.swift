import DeviceCore
import Glibc

exit(DeviceCoreProcess.run(Array(CommandLine.arguments.dropFirst())))
