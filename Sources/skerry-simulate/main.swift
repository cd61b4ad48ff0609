import TestKit

SimulateCommand.main()
