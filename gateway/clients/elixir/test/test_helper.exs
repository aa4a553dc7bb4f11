# What needs a gateway says so by the tag :gateway; it is run where MVGATEWAY_URL names one.
ExUnit.start(exclude: if(System.get_env("MVGATEWAY_URL"), do: [], else: [:gateway]), assert_receive_timeout: 60_000, timeout: 180_000)
