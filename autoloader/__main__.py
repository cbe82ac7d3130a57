from autoloader.cli import main

main()
