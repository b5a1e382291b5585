from diarserve.cli.main import main

raise SystemExit(main())
